# rows 67 | rule batch-leak
import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.mid, self.out = nn.Linear(8, 16), nn.Conv1d(16, 16, 3, padding=1), nn.Linear(16, 1)

    def forward(self, x):
        b, t, _ = x.shape
        h = torch.relu(self.inp(x))
        h = h.transpose(0, 1).reshape(b, 16, t)  # fault
        h = h.transpose(1, 2)  # well
        return self.out(torch.relu(self.mid(h)).mean(2))


torch.manual_seed(0)
x = torch.randn(200, 12, 8)
y = x[..., 0].mean(1, keepdim=True)
net = Mixer()
opt = torch.optim.AdamW(net.parameters(), 3e-3)
for step in range(20):
    at = torch.randperm(200)[:25]
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x[at]), y[at])  # here
    loss.backward()
    opt.step()
    print(step, loss.item())
