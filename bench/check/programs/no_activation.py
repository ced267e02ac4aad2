# rows 81 | rule linear-after-linear | at 0
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(
    nn.Linear(8, 32),
    nn.ReLU(),  # well
    nn.Linear(32, 32),
    nn.ReLU(),  # well
    nn.Linear(32, 1),
)
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(150, 8)
y = (x[:, :2].prod(1, keepdim=True)).sign()
for step in range(15):
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    opt.step()
    print(step, loss.item())
