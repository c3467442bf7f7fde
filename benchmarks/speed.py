"""How fast are sampling and its programs? Each command measures one part, and prints a table.

`photographs` measures the default command from file to file, beside other programs; `docs/guides/many-machines.md`
estimates the number of machines from it. `caflow bench` measures how time grows with N.
"""

import click
import default_command
import floors
import memory
import precisions
import progressive
import sampling

import cpp


@click.group()
def main() -> None:
    """Measure speed and memory."""


main.add_command(default_command.measure_photographs)
main.add_command(sampling.measure_chains)
main.add_command(progressive.measure_progressive)
main.add_command(memory.measure_memory)
main.add_command(precisions.measure_precisions)
main.add_command(floors.measure_floors)
main.add_command(cpp.measure_cpp)

if __name__ == "__main__":
    main()
