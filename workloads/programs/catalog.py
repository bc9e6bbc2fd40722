"""Programs by name. A network vets these from its start: volunteers run them without being asked,
and a ruling on them may slash."""

from workloads.core.program import Program
from workloads.programs.digits import Digits
from workloads.programs.fashion import Fashion
from workloads.programs.gpt import Pretraining
from workloads.programs.sentiment import Sentiment
from workloads.programs.tabular import Tabular

PROGRAMS: dict[str, type[Program]] = {
    "digits": Digits,
    "fashion": Fashion,
    "gpt": Pretraining,
    "sentiment": Sentiment,
    "tabular": Tabular,
}
