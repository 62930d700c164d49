"""Plays a transcript of ipvsadm and says where the director answers otherwise: recorded.py FILE.

`$` begins a command, its words quoted as for a shell; `<` a line of its standard input, `|` one of its standard
output, `!` one of its standard error; `=` its exit status, if that is not 0.
"""

import shlex
import subprocess
import sys

SHOWN = 5


def commands(path):
    """The commands of a file: line number, words, and lines by the character that begins them."""
    found = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            mark, text = line[0], line[2:]
            if mark == "#":
                continue
            if mark == "$":
                found.append((number, shlex.split(text), {"<": "", "|": "", "!": "", "=": "0\n"}))
            elif mark == "=":
                found[-1][2]["="] = text
            else:
                found[-1][2][mark] += text
    return found


def main():
    wrong = 0
    played = commands(sys.argv[1])
    for number, words, lines in played:
        done = subprocess.run(["ipvsadm", *words], input=lines["<"], capture_output=True, text=True, timeout=30)
        seen = {"|": done.stdout, "!": done.stderr, "=": f"{done.returncode}\n"}
        for mark, text in seen.items():
            if text != lines[mark]:
                wrong += 1
                if wrong <= SHOWN:
                    print(f"line {number}: ipvsadm {shlex.join(words)}: {mark}\n{text}instead of\n{lines[mark]}")
    print(f"{len(played)} commands, {wrong} answers differ")
    sys.exit(wrong > 0 or not played)


main()
