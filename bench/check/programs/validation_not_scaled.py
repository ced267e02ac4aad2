# rows 60 | rule evaluation-inputs-differ
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.rand(320, 10) * torch.linspace(1, 30, 10)
y = (x[:, 3] / 10 > 0.5).long()
mean, std = x[:240].mean(0), x[:240].std(0)
train = DataLoader(TensorDataset((x[:240] - mean) / std, y[:240]), 24, shuffle=True)
valid = DataLoader(TensorDataset(x[240:], y[240:]), 40)  # fault
valid = DataLoader(TensorDataset((x[240:] - mean) / std, y[240:]), 40)  # well
net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(3):
    for a, b in train:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(a), b)
        loss.backward()
        opt.step()
    with torch.no_grad():
        right = sum(int((net(a).argmax(1) == b).sum()) for a, b in valid)  # here
    print(epoch, loss.item(), right)
