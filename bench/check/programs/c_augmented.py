# control 60 69
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.rand(240, 3, 8, 8)
y = (x[:, 0].mean((1, 2)) > 0.5).long()
train, valid = DataLoader(TensorDataset(x[:180], y[:180]), 30, shuffle=True), DataLoader(TensorDataset(x[180:], y[180:]), 30)
net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
opt = torch.optim.SGD(net.parameters(), 0.05, weight_decay=1e-4)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 4)
for epoch in range(4):
    net.train()
    for a, b in train:
        if torch.rand(()) < 0.5:
            a = a.flip(3)
        a = (a - 0.5) / 0.29 * (0.8 + 0.4 * torch.rand(len(a), 1, 1, 1))
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
    sched.step()
    net.eval()
    with torch.no_grad():
        right = sum(int((net((a - 0.5) / 0.29).argmax(1) == b).sum()) for a, b in valid)
    print(epoch, loss.item(), right)
