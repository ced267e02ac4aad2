# rows 7 | rule parameters-not-in-optimizer | at shape (24, 24)
import torch
from torch import nn


class Deep(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.inp = nn.Linear(6, 24)
        self.hidden = [nn.Linear(24, 24) for _ in range(depth)]  # fault
        self.hidden = nn.ModuleList(nn.Linear(24, 24) for _ in range(depth))  # well
        self.out = nn.Linear(24, 1)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        for layer in self.hidden:
            x = x + torch.tanh(layer(x))
        return self.out(x)


torch.manual_seed(0)
net = Deep()
opt = torch.optim.Adam(net.parameters(), 3e-3)
x = torch.rand(200, 6)
y = x.prod(1, keepdim=True)
for step in range(20):
    opt.zero_grad()
    loss = ((net(x) - y) ** 2).mean()
    loss.backward()
    opt.step()
    print(loss.item())
