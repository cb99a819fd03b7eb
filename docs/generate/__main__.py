"""Write the pages, and what packages carry beside them: `make docs`."""

from docs.generate.package_files import package_files
from docs.generate.pages import pages

for file, text in (pages() | package_files()).items():
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
