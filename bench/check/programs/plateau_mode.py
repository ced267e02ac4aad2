# rows 21 | rule plateau-mode
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(600, 12)
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
train = DataLoader(TensorDataset(x[:400], y[:400]), 40, shuffle=True)
valid = DataLoader(TensorDataset(x[400:], y[400:]), 100)
net = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 2))
opt = torch.optim.SGD(net.parameters(), 0.05)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.1, patience=2)  # fault
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, mode="max", factor=0.1, patience=2)  # well
for epoch in range(8):
    net.train()
    for xb, yb in train:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        accuracy = sum((net(a).argmax(1) == b).sum().item() for a, b in valid) / 200
    plateau.step(accuracy)  # here
    print(epoch, loss.item(), accuracy)
