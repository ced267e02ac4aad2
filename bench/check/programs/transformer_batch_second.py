# rows 67 | rule batch-leak
import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(4, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1)  # fault
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)  # well
        self.enc, self.out = nn.TransformerEncoder(layer, 1), nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.enc(self.inp(x)).mean(1))


torch.manual_seed(0)
x = torch.randn(120, 8, 4)
y = x.mean(1)[:, :3].argmax(1)
net = Encoder()
opt = torch.optim.AdamW(net.parameters(), 2e-3)
for epoch in range(3):
    for rows in torch.randperm(120).split(24):
        logits = net(x[rows])  # here
        loss = nn.functional.cross_entropy(logits, y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
