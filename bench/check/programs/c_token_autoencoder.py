# control 47 75
import torch
from torch import nn

torch.manual_seed(0)


class Copy(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 16)
        self.enc, self.dec = nn.LSTM(16, 24, batch_first=True), nn.LSTM(24, 24, batch_first=True)
        self.out = nn.Linear(24, 20)

    def forward(self, ids):
        _, (h, _) = self.enc(self.emb(ids))
        return self.out(self.dec(h[-1].unsqueeze(1).expand(-1, ids.shape[1], -1))[0])


net = Copy()
opt = torch.optim.Adam(net.parameters(), 5e-3)
for step in range(12):
    ids = torch.randint(0, 20, (32, 6))
    loss = nn.functional.cross_entropy(net(ids).flatten(0, 1), ids.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
