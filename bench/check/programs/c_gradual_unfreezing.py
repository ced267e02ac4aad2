# control 8 11 92
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(9, 18), nn.ReLU()), nn.Linear(18, 2)
body.requires_grad_(False)
opt = torch.optim.Adam(head.parameters(), 1e-2)
x = torch.randn(128, 9)
y = (x[:, 0] > 0).long()
for epoch in range(6):
    if epoch == 3:
        body.requires_grad_(True)
        opt.add_param_group({"params": list(body.parameters()), "lr": 1e-3})
    for i in range(0, 128, 32):
        loss = nn.functional.cross_entropy(head(body(x[i : i + 32])), y[i : i + 32])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
