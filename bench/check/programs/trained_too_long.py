# rows 84 | rule overfitting
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(460, 30)
y = (x[:, 0] + 1.2 * torch.randn(460) > 0).long()
train, held = slice(0, 60), slice(60, 460)
net = nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(40):  # fault
for epoch in range(4):  # well
    order = torch.randperm(60)
    net.train()
    for at in order.split(20):
        loss = nn.functional.cross_entropy(net(x[train][at]), y[train][at])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        val = nn.functional.cross_entropy(net(x[held]), y[held])  # here
    print(epoch, loss.item(), val.item())
