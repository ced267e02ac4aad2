# control 12
import torch
from torch import nn

torch.manual_seed(0)
encoder, probe = nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Linear(16, 2)
decoder = nn.Linear(16, 8)
opt = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), *probe.parameters()], 3e-3)
x = torch.randn(160, 8)
y = (x.sum(1) > 0).long()
for step in range(30):
    at = torch.randperm(160)[:40]
    h = encoder(x[at])
    loss = nn.functional.mse_loss(decoder(h), x[at]) + nn.functional.cross_entropy(probe(h.detach()), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(loss.item())
