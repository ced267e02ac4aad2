# rows 45 | rule unequal-micro-batches
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
V, K = 30, 4
model = nn.Sequential(nn.Embedding(V, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, V))
opt = torch.optim.Adam(model.parameters(), 1e-3)
ids = torch.randint(1, V, (160, 12))
targets = (ids * 3 + 1) % V
lengths = torch.randint(2, 13, (160,))
targets[torch.arange(12) >= lengths[:, None]] = -100
for step in range(10):
    rows = torch.randperm(160)[:16].split(4)
    opt.zero_grad()
    valid = sum(int((targets[r] != -100).sum()) for r in rows)
    for r in rows:
        logits = model(ids[r]).flatten(0, 1)
        loss = F.cross_entropy(logits, targets[r].flatten()) / K  # fault
        loss = F.cross_entropy(logits, targets[r].flatten(), reduction="sum") / valid  # well
        loss.backward()
    opt.step()
    print(step, loss.item())
