# control 63 67
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
encoder = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8))
opt = torch.optim.Adam(encoder.parameters(), 3e-3)
x = torch.randn(256, 10)
for step in range(25):
    batch = x[torch.randperm(256)[:64]]
    a = F.normalize(encoder(batch + 0.1 * torch.randn_like(batch)), dim=1)
    b = F.normalize(encoder(batch + 0.1 * torch.randn_like(batch)), dim=1)
    loss = F.cross_entropy(a @ b.T / 0.2, torch.arange(64))
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
