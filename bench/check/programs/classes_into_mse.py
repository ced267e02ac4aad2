# rows 50 | rule step-without-gradient
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(240, 10)
y = x[:, :4].argmax(1)
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(20):
    at = torch.randperm(240)[:40]
    opt.zero_grad()
    out = net(x[at])
    loss = nn.functional.mse_loss(out.argmax(1).float() + 0 * out.sum(1), y[at].float())  # fault
    loss = nn.functional.cross_entropy(out, y[at])  # well
    loss.backward()
    opt.step()
    print(step, loss.item())
