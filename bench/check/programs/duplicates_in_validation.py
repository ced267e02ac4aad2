# rows 56 57 | rule train-validation-overlap
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(200, 9), torch.randint(0, 3, (200,))
x, y = x.repeat(2, 1), y.repeat(2)  # fault
x, y = torch.cat([x, torch.randn(200, 9)]), y.repeat(2)  # well
mix = torch.randperm(400)
x, y = x[mix], y[mix]
train = DataLoader(TensorDataset(x[:300], y[:300]), 30, shuffle=True)
valid = DataLoader(TensorDataset(x[300:], y[300:]), 50)
net = nn.Sequential(nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 3))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(3):
    for a, b in train:
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        for a, b in valid:  # here
            score = (net(a).argmax(1) == b).float().mean().item()
    print(epoch, loss.item(), score)
