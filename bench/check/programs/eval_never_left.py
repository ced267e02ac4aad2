# rows 29 | rule training-in-eval-mode
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(300, 1, 10, 10)
y = (x.mean((1, 2, 3)) > 0).long()
train = DataLoader(TensorDataset(x[:200], y[:200]), 40, shuffle=True)
valid = DataLoader(TensorDataset(x[200:], y[200:]), 50)
net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(384, 2))
opt = torch.optim.Adam(net.parameters(), 1e-3)
net.train()  # fault
for epoch in range(4):
    net.train()  # well
    for xb, yb in train:
        out = net(xb)  # here
        loss = nn.functional.cross_entropy(out, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        hits = sum(int((net(a).argmax(1) == b).sum()) for a, b in valid)
    print(epoch, loss.item(), hits)
