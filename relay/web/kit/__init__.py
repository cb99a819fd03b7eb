"""What all pages share: requests and answers, forms, lists, charts, words."""
