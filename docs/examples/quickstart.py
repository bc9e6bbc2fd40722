"""A search over your own program. Start a network with `gensyn-ray up`, then run this file."""

import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import nn

import gensyn_ray


class Mine(gensyn_ray.Program):
    """A small network that learns a curve. Plain PyTorch."""

    steps_per_segment, segments = 50, 4

    def load_data(self):
        x = torch.linspace(-3, 3, 512).reshape(-1, 1)
        return {"x": x, "y": torch.sin(2 * x)}

    def init(self, config, data, rng):
        width = config["width"]
        self.model = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["lr"])

    def step(self, data, rng):  # one training step; random numbers come from `rng` only
        rows = rng.integers((64,), len(data["x"]))
        loss = nn.functional.mse_loss(self.model(data["x"][rows]), data["y"][rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def evaluate(self, data):
        return {"loss": float(nn.functional.mse_loss(self.model(data["x"]), data["y"]))}


network = gensyn_ray.connect()  # the local network; or "ray://head:10001"
job = network.sweep(
    Mine,
    param_space={"lr": tune.loguniform(1e-3, 1e-1), "width": tune.choice([16, 32])},
    tune_config=tune.TuneConfig(
        metric="loss", mode="min", num_samples=6, search_alg=OptunaSearch(seed=1)
    ),
    budget=gensyn_ray.Budget.from_credits(100),
)
result = job.result(say=print)  # .grid is Tune's ResultGrid; .bill and .receipts have the money
print(result.describe())

model = result.program().model.eval()  # the best trial's model, in plain PyTorch
print("sin(1) is about", float(model(torch.tensor([[0.5]]))))
