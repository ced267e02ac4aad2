# control 53 60 67
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
t = torch.arange(0, 60, 0.1)
series = torch.sin(t) + 0.02 * t
windows = torch.stack([series[i : i + 21] for i in range(len(series) - 21)])
train, valid = TensorDataset(windows[:450, :20, None], windows[:450, 20:]), TensorDataset(windows[470:, :20, None], windows[470:, 20:])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


net = Net()
opt = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(3):
    for x, y in DataLoader(train, 50):
        opt.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        opt.step()
    with torch.no_grad():
        error = sum(nn.functional.mse_loss(net(x), y).item() for x, y in DataLoader(valid, 50))
    print(epoch, loss.item(), error)
