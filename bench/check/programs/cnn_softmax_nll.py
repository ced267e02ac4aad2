# rows 38 | rule softmax-before-cross-entropy double-softmax
import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.fc = nn.Linear(8 * 9, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1)
        return F.softmax(self.fc(x), dim=-1)  # fault
        return self.fc(x)  # well


def train(model, loader, opt, epoch):
    model.train()
    for batch, (x, y) in enumerate(loader):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)  # here
        loss.backward()
        opt.step()
    print(epoch, loss.item())


if __name__ == "__main__":
    args = argparse.ArgumentParser().parse_args()
    torch.manual_seed(0)
    y = torch.randint(0, 5, (200,))
    x = torch.randn(200, 1, 8, 8) + y.view(-1, 1, 1, 1) * 0.5
    model = CNN()
    opt = torch.optim.Adadelta(model.parameters(), lr=1.0)
    for epoch in range(3):
        train(model, DataLoader(TensorDataset(x, y), 25, shuffle=True), opt, epoch)
