# control 12 80 92
import torch
from torch import nn


class MoE(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        weight, pick = self.gate(x).softmax(1).max(1)
        y = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows = pick == k
            if rows.any():
                y[rows] = weight[rows, None] * torch.relu(expert(x[rows]))
        return self.out(y)


torch.manual_seed(0)
net = MoE()
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(200, 8)
y = x[:, :3].argmax(1)
for step in range(30):
    at = torch.randperm(200)[:50]
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x[at]), y[at])
    loss.backward()
    opt.step()
    print(step, loss.item())
