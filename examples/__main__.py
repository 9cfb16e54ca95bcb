"""The gallery: `python -m examples` lists the examples, `python -m examples NAME` runs one of them from end to end.

An example is a package beside this file. The first line of its docstring says what it shows, `NEEDS` what the machine
must have besides `make env`, and its module `demo` has a function `main` that runs it.
"""

import argparse
import importlib
import pkgutil
import sys
from types import ModuleType

import examples


def main() -> int:
    """List the examples or run one; return the exit status."""
    gallery = packages()
    parser = argparse.ArgumentParser(
        prog="python -m examples",
        usage="make example NAME=NAME, or python -m examples [NAME [OPTIONS]]",
        description=f"Run an example from end to end on this machine.\n\n{listed(gallery)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the example; all are listed without it")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTIONS", help="those of the example")
    chosen = parser.parse_args()
    if chosen.name is None:
        print(f"make example NAME=…\n\n{listed(gallery)}")
        return 0
    if chosen.name not in gallery:
        print(f"There is no example {chosen.name!r}. There are:\n\n{listed(gallery)}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m examples {chosen.name}", *chosen.options]
    status: int = importlib.import_module(f"examples.{chosen.name}.demo").main()
    return status


def packages() -> dict[str, ModuleType]:
    """The examples by name."""
    names = [module.name for module in pkgutil.iter_modules(examples.__path__) if module.ispkg]
    return {name: importlib.import_module(f"examples.{name}") for name in names}


def listed(gallery: dict[str, ModuleType]) -> str:
    """A line for each example: its name, what it shows, and what it needs."""
    width = max(map(len, gallery))
    return "\n".join(
        f"  {name.ljust(width)}  {(package.__doc__ or '').partition(chr(10))[0]}"
        + (f" Needs {package.NEEDS}." if package.NEEDS else "")
        for name, package in gallery.items()
    )


if __name__ == "__main__":
    sys.exit(main())
