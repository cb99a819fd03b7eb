"""Write the pages: `make docs`."""

from tests.reference.pages import pages

for file, text in pages().items():
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
