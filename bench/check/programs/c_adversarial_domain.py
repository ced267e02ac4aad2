# control 23 6
import torch
from torch import nn


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -0.3 * g


torch.manual_seed(0)
features, task, domain = nn.Sequential(nn.Linear(6, 16), nn.ReLU()), nn.Linear(16, 2), nn.Linear(16, 2)
params = [p for m in (features, task, domain) for p in m.parameters()]
opt = torch.optim.Adam(params, 5e-3)
x = torch.randn(200, 6)
d = torch.arange(200) % 2
x[:, 5] += d
y = (x[:, 0] > 0).long()
for step in range(30):
    at = torch.randperm(200)[:50]
    h = features(x[at])
    loss = nn.functional.cross_entropy(task(h), y[at]) + nn.functional.cross_entropy(domain(Reverse.apply(h)), d[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
