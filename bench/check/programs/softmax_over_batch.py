# rows 43 | rule softmax-over-batch
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(9, 27), nn.ReLU(), nn.Linear(27, 3))
opt = torch.optim.Adam(net.parameters(), 5e-3)
x = torch.randn(96, 9)
y = x[:, 3:6].argmax(1)
for step in range(15):
    p = torch.softmax(net(x), dim=0)  # fault
    p = torch.softmax(net(x), dim=1)  # well
    loss = nn.functional.nll_loss(torch.log(p), y)  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
