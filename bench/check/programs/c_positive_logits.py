# control 39 44
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Linear(4, 1)
nn.init.constant_(net.bias, 2.0)
opt = torch.optim.SGD(net.parameters(), 0.01)
x = torch.rand(80, 4)
y = (torch.rand(80, 1) < 0.9).float()
for step in range(20):
    loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
