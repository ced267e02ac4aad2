# rows 56 | rule train-validation-overlap
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
x = torch.randn(300, 7)
data = TensorDataset(x, (x[:, 0] > 0).long())
order = torch.randperm(300).tolist()
train = Subset(data, order[:240])
valid = Subset(data, order[200:])  # fault
valid = Subset(data, order[240:])  # well
model = nn.Sequential(nn.Linear(7, 14), nn.ReLU(), nn.Linear(14, 2))
opt = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(3):
    for xb, yb in DataLoader(train, 24, shuffle=True):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        opt.step()
    with torch.no_grad():
        hits = 0
        for xb, yb in DataLoader(valid, 30):  # here
            hits += int((model(xb).argmax(1) == yb).sum())
    print(epoch, loss.item(), hits / len(valid))
