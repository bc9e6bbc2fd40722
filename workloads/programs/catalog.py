"""Programs by name. A network vets these from its start: volunteers run them without being asked,
and a ruling on them may slash."""

from workloads.core.program import Program
from workloads.programs.digits import Digits

PROGRAMS: dict[str, type[Program]] = {"digits": Digits}
