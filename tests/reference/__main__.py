"""Write the pages, and what packages carry beside them: `make docs`."""

from tests.reference.package_files import package_files
from tests.reference.pages import pages

for file, text in (pages() | package_files()).items():
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
