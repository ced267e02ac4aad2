# rows 51 | rule non-finite-loss
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1))
opt = torch.optim.SGD(net.parameters(), 0.5)
x = torch.randn(60, 6) * 60
y = nn.functional.one_hot(x[:, :3].argmax(1), 3)
for step in range(30):
    p = net(x)
    loss = -(y * torch.log(p)).sum(1).mean()  # fault
    loss = -(y * torch.log(p.clamp_min(1e-6))).sum(1).mean()  # well
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
    print(step, loss.item())
