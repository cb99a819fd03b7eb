"""One message on its way: from the client's final dot through one route to an outcome."""
