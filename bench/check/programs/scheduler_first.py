# rows 20 | rule scheduler-before-optimizer
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), 0.1)
decay = torch.optim.lr_scheduler.ExponentialLR(opt, 0.95)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
for epoch in range(12):
    decay.step()  # fault
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    opt.step()
    decay.step()  # well
    print(epoch, loss.item())
