# rows 30 | rule evaluation-in-train-mode
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def evaluate(model, loader):
    model.eval()  # well
    hits = 0
    with torch.no_grad():
        for x, y in loader:
            hits += (model(x).argmax(1) == y).sum().item()  # here
    model.train()
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(0)
    x = torch.randn(260, 8)
    y = (x[:, 0] > 0).long()
    train = DataLoader(TensorDataset(x[:200], y[:200]), 20, shuffle=True)
    valid = DataLoader(TensorDataset(x[200:], y[200:]), 20)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    opt = torch.optim.Adam(model.parameters(), 5e-3)
    for epoch in range(3):
        for xb, yb in train:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(xb), yb)
            loss.backward()
            opt.step()
        print(epoch, loss.item(), evaluate(model, valid))


main()
