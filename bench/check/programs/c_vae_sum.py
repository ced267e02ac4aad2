# control 49 77
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.mu, self.lv = nn.Linear(64, 32), nn.Linear(32, 4), nn.Linear(32, 4)
        self.b, self.c = nn.Linear(4, 32), nn.Linear(32, 64)

    def decode(self, z):
        return torch.sigmoid(self.c(F.relu(self.b(z))))

    def forward(self, x):
        h = F.relu(self.a(x))
        mu, lv = self.mu(h), self.lv(h)
        return self.decode(mu + torch.randn_like(mu) * (lv / 2).exp()), mu, lv


torch.manual_seed(0)
vae, data = VAE(), (torch.rand(240, 64) > 0.7).float()
opt = torch.optim.Adam(vae.parameters(), 1e-3)
for epoch in range(5):
    vae.train()
    for i in range(0, 240, 40):
        x = data[i : i + 40]
        out, mu, lv = vae(x)
        loss = F.binary_cross_entropy(out, x, reduction="sum") - 0.5 * (1 + lv - mu**2 - lv.exp()).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
    vae.eval()
    with torch.no_grad():
        print(epoch, loss.item(), vae.decode(torch.randn(16, 4)).mean().item())
