# control 63 38
import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
query = nn.Linear(12, 8)
keys = copy.deepcopy(query).requires_grad_(False)
queue = F.normalize(torch.randn(100, 8), dim=1)
opt = torch.optim.SGD(query.parameters(), 0.1)
data = torch.randn(400, 12)
for step in range(20):
    x = data[torch.randint(0, 400, (20,))]
    q = F.normalize(query(x + 0.1 * torch.randn_like(x)), dim=1)
    with torch.no_grad():
        k = F.normalize(keys(x), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.2
    loss = F.cross_entropy(logits, torch.zeros(20, dtype=torch.long))
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for a, b in zip(query.parameters(), keys.parameters()):
            b.lerp_(a, 0.05)
        queue = torch.cat([k, queue])[:100]
    print(step, loss.item())
