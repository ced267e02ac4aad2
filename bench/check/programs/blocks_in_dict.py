# rows 7 | rule parameters-not-in-optimizer | at shape
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.towers = {"a": nn.Linear(5, 8), "b": nn.Linear(5, 8)}  # fault
        self.towers = nn.ModuleDict({"a": nn.Linear(5, 8), "b": nn.Linear(5, 8)})  # well
        self.join = nn.Linear(16, 2)

    def forward(self, a, b):
        return self.join(torch.cat([F.relu(self.towers["a"](a)), F.relu(self.towers["b"](b))], 1))


net = Towers()
optim = torch.optim.RMSprop(net.parameters(), 1e-3)
a, b = torch.randn(96, 5), torch.randn(96, 5)
y = (a[:, 0] > b[:, 0]).long()
for epoch in range(5):
    for i in range(0, 96, 32):
        optim.zero_grad()
        loss = F.cross_entropy(net(a[i : i + 32], b[i : i + 32]), y[i : i + 32])
        loss.backward()
        optim.step()
    print(epoch, loss.item())
