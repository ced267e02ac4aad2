# control 21
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
opt = torch.optim.Adam(net.parameters(), 1e-2)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1)
x, y = torch.randn(80, 30), torch.randint(0, 2, (80,))
for epoch in range(12):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x[:50]), y[:50])
    loss.backward()
    opt.step()
    with torch.no_grad():
        valid = nn.functional.cross_entropy(net(x[50:]), y[50:]).item()
    plateau.step(valid)
    print(epoch, loss.item(), valid)
