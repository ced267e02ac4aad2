# rows 42 | rule double-softmax impossible-targets one-class
import torch
from torch import nn

torch.manual_seed(0)
data = torch.rand(64, 20)
net = nn.Linear(20, 1)  # fault
net = nn.Linear(20, 2)  # well
target = torch.zeros(64, dtype=torch.long)  # fault
target = (data.mean(1) > 0.5).long()  # well
opt = torch.optim.SGD(net.parameters(), 1e-1)
for epoch in range(12):
    opt.zero_grad()
    out = net(data)
    loss = nn.functional.cross_entropy(out, target)  # here
    loss.backward()
    opt.step()
    print(epoch, loss.item())
