# rows 1 | rule stale-gradient
import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, net, lr):
        self.net, self.loss = net, nn.MSELoss()
        self.opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)

    def fit_batch(self, x, y):
        error = self.loss(self.net(x).squeeze(1), y)
        error.backward()
        self.opt.step()  # here
        self.opt.zero_grad()  # well
        return error.item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(1)
    x = torch.randn(300, 6)
    y = x @ torch.randn(6) + 0.1 * torch.randn(300)
    loader = DataLoader(TensorDataset(x, y), batch_size=30, shuffle=True)
    trainer = Trainer(nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1)), 0.003)
    for epoch in range(args.epochs):
        print(epoch, sum(trainer.fit_batch(*batch) for batch in loader) / len(loader))


if __name__ == "__main__":
    main()
