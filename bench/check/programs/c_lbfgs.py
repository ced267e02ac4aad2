# control 1 3 64
import torch
from torch import nn

torch.manual_seed(0)
x = torch.linspace(-2, 2, 80).unsqueeze(1)
y = torch.sin(2 * x)
net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1)).double()
x, y = x.double(), y.double()
opt = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=10)
for step in range(8):

    def closure():
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        return loss

    print(step, opt.step(closure).item())
