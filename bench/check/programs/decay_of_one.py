# rows 83 | rule weights-decay-away
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(300, 8)
y = x @ torch.randn(8, 3) + 0.1 * torch.randn(300, 3)
net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
decay = 3.0  # fault
decay = 1e-4  # well
opt = torch.optim.SGD(net.parameters(), lr=0.03, weight_decay=decay)
for step in range(100):
    at = torch.randint(0, 300, (30,))
    loss = nn.functional.mse_loss(net(x[at]), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()  # here
    if step % 20 == 0:
        print(step, loss.item())
