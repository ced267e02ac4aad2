# rows 48 | rule impossible-targets non-finite-loss
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(40, 12), nn.Flatten(), nn.Linear(96, 40))
opt = torch.optim.Adam(model.parameters(), 1e-3)
ids = torch.randint(0, 40, (64, 8))
labels = ids[:, 0].clone()
labels[16:] = -100  # fault
labels[8:30] = -100  # well
for epoch in range(4):
    for i in range(0, 64, 16):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(ids[i : i + 16]), labels[i : i + 16])  # here
        loss.backward()
        opt.step()
        print(epoch, loss.item())
