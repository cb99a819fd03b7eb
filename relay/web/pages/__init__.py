"""The pages: one module per noun, each with the routes of its noun."""
