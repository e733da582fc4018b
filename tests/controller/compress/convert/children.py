"""A child that does as the name in its job says, where the real one would need gigabytes."""

import os
import signal
import sys

from controller.compress.convert.messages import Converted, Job, Refused, Said, Step


def say(said: Said) -> None:
    sys.stdout.write(said.model_dump_json() + "\n")
    sys.stdout.flush()


def main() -> None:
    job = Job.model_validate_json(sys.stdin.buffer.read())
    say(Step(title="Reading"))
    match job.name:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crashed":
            sys.stderr.write("noise\nlast words\n")
            sys.exit(3)
        case "refused":
            say(Refused(why="ValueError: not so", is_whole=False))
        case "bad samples":
            say(Refused(why="cannot use samples s.npz: no array 'x'", is_whole=True))
        case _:
            say(Converted(inputs=(), outputs=(), sample_rows=0, tools="none"))


if __name__ == "__main__":
    main()
