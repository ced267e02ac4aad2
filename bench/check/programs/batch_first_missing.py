# rows 67 | rule batch-leak
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 24)  # fault
        self.rnn = nn.GRU(3, 24, batch_first=True)  # well
        self.out = nn.Linear(24, 2)

    def forward(self, x):
        hidden, _ = self.rnn(x)
        return self.out(hidden[:, -1])


torch.manual_seed(0)
x = torch.randn(160, 10, 3)
y = (x[..., 0].sum(1) > 0).long()
model = Recurrent()
opt = torch.optim.Adam(model.parameters(), 5e-3)
for epoch in range(3):
    for a, b in DataLoader(TensorDataset(x, y), 20, shuffle=True):
        loss = nn.functional.cross_entropy(model(a), b)  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
