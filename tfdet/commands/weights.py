"""List published weights, and fetch, verify or remove those of the cache.

    tfdet weights                                   what is known, and what of it is here
    tfdet weights fetch detectron2/R-50 ...         so that later commands need no network
    tfdet weights verify [NAME ...]                 reads the files of the cache, all or those named
    tfdet weights remove NAME ...

Every command that takes weights takes these names, and fetches what is not here. The cache is the folder TFDET_CACHE,
else `tfdet` in the user's cache folder. TFDET_MIRROR, TFDET_OFFLINE and TFDET_TIMEOUT: see docs/weights.md.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError

if TYPE_CHECKING:
    from tfdet.weights.published import Published

_ACTIONS = ("list", "fetch", "verify", "remove")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="what to do (default: list)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="published weights, such as detectron2/R-50")
    parser.add_argument("--cached", action="store_true", help="list those alone that are in the cache")


def run(args: argparse.Namespace) -> int:
    """Does one of the four."""
    from tfdet.fetch import cache_folder
    from tfdet.terminal import Console
    from tfdet.weights import published

    chosen = [published.get(name) for name in args.names]
    console = Console(soft_wrap=True, highlight=False)
    if args.action in ("fetch", "remove") and not chosen:
        raise UserError(f"{args.action} what? Give names; `tfdet weights` lists them")
    here = [one for one in published.everything().values() if published.cached(one).is_file()]
    if args.action == "list":
        for line in _lines(here if args.cached else chosen or list(published.everything().values()), here):
            console.print(line)
        console.print(f"\n{len(here)} in {cache_folder()}; sizes in MB; 'here' marks what is in the cache")
        return EXIT_OK
    if args.action == "verify":
        return _verify(chosen or here, console)
    for one in chosen:
        if args.action == "fetch":
            console.print(f"{one.name}: {published.fetch(one)}")
        else:
            console.print(_remove(one))
    return EXIT_OK


def _lines(listed: list[Published], here: list[Published]) -> list[str]:
    """The list, 80 characters wide, by program."""
    from urllib.parse import urlsplit

    from tfdet.weights.published import TITLES, cached

    lines = []
    for program, title in TITLES.items():
        own = [one for one in listed if one.program == program]
        if not own:
            continue
        host = urlsplit(own[0].addresses[0]).netloc
        lines += ["" if lines else None, f"{title}, from {host}; licence {own[0].licence}"]
        lines.append(f"{'':53}{'box AP':>6} {'mask':>5} {'size':>6} here")
        for one in own:
            size = cached(one).stat().st_size if one in here else one.size
            figures = (_figure(one.box_ap), _figure(one.mask_ap), f"{size / 1e6:.0f}" if size else "")
            name = one.name
            if len(name) > 51:  # the figures below it
                lines.append(f"  {name}")
                name = ""
            lines.append(
                f"  {name:<51}{figures[0]:>6} {figures[1]:>5} {figures[2]:>6} {'here' * (one in here)}".rstrip()
            )
    return [line for line in lines if line is not None]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _verify(chosen: list[Published], console) -> int:
    from tfdet import fetch
    from tfdet.weights.published import cached

    wrong = 0
    for one in chosen:
        file = cached(one)
        try:
            if not file.is_file():
                raise UserError(f"{file} is not there")
            fetch.check_kept(file, one.checksum, whole=True)
        except UserError as error:
            wrong += 1
            console.print(f"{one.name}: {error}", style="red")
            continue
        known = fetch.read_record(file)
        against = f"the published {one.checksum}" if one.checksum else "the first download's"
        console.print(f"{one.name}: whole, its checksum is {against}" + (f" ({known.date})" if known else ""))
    if not chosen:
        console.print("nothing is in the cache")
    return EXIT_CHECK_FAILED if wrong else EXIT_OK


def _remove(one: Published) -> str:
    from tfdet import fetch
    from tfdet.weights.published import cached

    freed = fetch.remove(cached(one))
    return f"{one.name}: removed, {freed / 1e6:.1f} MB" if freed else f"{one.name}: was not in the cache"
