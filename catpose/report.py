"""Make one page of finished runs and studies: `python -m catpose.report RUN … --out report/`.

RUN is a run's folder or a study's. The page is one HTML file that opens offline and answers: which model is better, is
the difference real, where does it fail, what does it cost. Its figures lie beside it as PNG and SVG.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catpose.errors import InputError, Parser, command, natural, one_line


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="catpose report",
        description="Make one page of finished runs and studies.",
        examples=("catpose report runs/mobilenet", "catpose report runs/quick runs/mobilenet --out page/"),
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run (fit) or a study (sweep)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the page (%(default)s)")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="data folder (the first run's)")
    parser.add_argument("--profile", type=Path, action="append", default=[], metavar="FILE",
                        help="a profile.json of catpose.profile, any number of times")  # fmt: skip
    parser.add_argument("--import", dest="trusted", action="append", default=[], metavar="MODULE",
                        help="a module of your own that you trust (my_net), for its models")  # fmt: skip
    parser.add_argument("--title", default="Cat pose models", help="of the page (%(default)s)")
    parser.add_argument("--draws", type=natural, default=1000, help="resamples of the images (%(default)s)")
    words = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv)

    from catpose.files import refuse_owned, require_writable
    from catpose.page.report import report
    from catpose.run.options import import_modules

    import_modules(arguments.trusted)
    require_writable(arguments.out, "--out", folder=True)
    refuse_owned(arguments.out, "--out", "run", "study")
    main_file = arguments.out / "index.html"
    if main_file.is_dir() or (main_file.exists() and b"Made by catpose" not in main_file.read_bytes()):
        raise InputError(f"{main_file}: is no report; move it away, or name another folder with --out")
    page = report(
        arguments.runs,
        arguments.data,
        arguments.profile,
        arguments.title,
        arguments.draws,
        words,
        tuple(arguments.trusted),
    )
    files = page.write(arguments.out)
    for answer in page.answers:
        print(one_line(f"{answer.question} {answer.answer}: {answer.detail}"))
    print(f"written: {main_file} ({main_file.stat().st_size / 1e6:.1f} MB), {len(files) - 1} figures")


if __name__ == "__main__":
    main()
