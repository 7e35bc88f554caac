"""make assignments: student notebooks, solutions and autograders of one variant, in _build/assignments/SEED/NAME.

    python book/assignments/make.py [--seed 0] [--publish] [NAME …]

--publish also copies the student's part into the book: book/assignments/NAME.ipynb and book/assignments/tests/NAME.
"""

import argparse
import time

import frame


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", action="store_true")
    args = parser.parse_args()
    folder = frame.ROOT / "_build" / "assignments" / str(args.seed)
    for name in args.names or frame.written():
        start = time.perf_counter()
        target = frame.write(name, args.seed, folder)
        if args.publish:
            frame.publish(name, folder)
        print(f"{target.relative_to(frame.ROOT)}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
