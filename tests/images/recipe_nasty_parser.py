"""Image `nasty-parser`: what an ordinary pull refuses or reads otherwise, and what must be refused.

For converter tests only. Image names: the oddity's name, "encoding-NAME", and for what must be refused with an error
"should-fail-NAME". None of these is meant to be run; oddities.json says what each is for.
"""

import dataclasses

from images.nasty import broken, encodings, parser_only
from images.nasty.assemble import Assembler
from images.nasty.oddity import collect
from images.recipe_nasty import SOURCES as NASTY_SOURCES
from images.recipe_nasty import mixed_tar

DESCRIPTION = "what a plain pull refuses or reads otherwise, and broken layers; for converter tests"
REQUIRES = ["apt-get", "dpkg-deb", "zstd"]
SOURCES = [*NASTY_SOURCES, "recipe_nasty_parser.py", "nasty/broken.py", "nasty/parser_only.py"]


def build(folder):
    assembler = Assembler(folder)
    assembler.oddity_images(collect(parser_only))
    assembler.oddity_images([dataclasses.replace(oddity, name=f"should-fail-{oddity.name}")
                             for oddity in collect(broken)])
    mixed = mixed_tar()
    for prefix, table in (("encoding", encodings.PARSER_ONLY), ("should-fail", encodings.BROKEN)):
        for name, encoding in table.items():
            assembler.image(f"{prefix}-{name}", [assembler.layer(mixed, name, encoding, "mixed")], f"encoding {name}")
    assembler.describe()
