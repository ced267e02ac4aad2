# rows 68 | rule batch-axis-lost
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        return self.body(x).squeeze()  # fault
        return self.body(x).squeeze(-1)  # well


torch.manual_seed(0)
x = torch.randn(129, 6)
y = x[:, 0] * 2 - x[:, 1]
net = Scorer()
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(4):
    for a, b in DataLoader(TensorDataset(x, y), 16, shuffle=True):
        out = net(a)  # here
        loss = ((out - b) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
