# rows 33 | rule spectral-norm-unsettled
import torch
from torch import nn
from torch.nn.utils import spectral_norm

torch.manual_seed(0)
net = nn.Sequential(spectral_norm(nn.Linear(10, 20)), nn.ReLU(), spectral_norm(nn.Linear(20, 2)))
opt = torch.optim.SGD(net.parameters(), 0.1)
x = torch.randn(100, 10)
y = (x.sum(1) > 0).long()


def accuracy():
    net.eval()
    with torch.no_grad():
        out = net(x)  # here
    net.train()
    return (out.argmax(1) == y).float().mean().item()


print("before", accuracy())  # fault
for epoch in range(15):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item(), accuracy())
