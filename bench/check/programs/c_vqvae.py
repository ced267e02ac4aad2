# control 12 50
import torch
from torch import nn

torch.manual_seed(0)
enc, dec, book = nn.Linear(10, 4), nn.Linear(4, 10), nn.Embedding(16, 4)
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters(), *book.parameters()], 1e-2)
data = torch.randn(8, 10).repeat_interleave(20, 0) + 0.05 * torch.randn(160, 10)
for step in range(40):
    x = data[torch.randperm(160)[:32]]
    z = enc(x)
    code = torch.cdist(z, book.weight).argmin(1)
    q = book(code)
    commit = nn.functional.mse_loss(q.detach(), z) + nn.functional.mse_loss(q, z.detach())
    loss = nn.functional.mse_loss(dec(z + (q - z).detach()), x) + commit
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
