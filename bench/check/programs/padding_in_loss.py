# rows 46 | rule padding-in-loss
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, words=50, tags=8):
        super().__init__()
        self.emb = nn.Embedding(words, 20, padding_idx=0)
        self.lstm = nn.LSTM(20, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, tags)

    def forward(self, ids):
        return self.out(self.lstm(self.emb(ids))[0])


torch.manual_seed(0)
words = torch.randint(1, 50, (120, 14))
tags = words % 7 + 1
pad = torch.arange(14) >= torch.randint(3, 14, (120, 1))
words[pad], tags[pad] = 0, 0
net = Tagger()
opt = torch.optim.Adam(net.parameters(), 5e-3)
criterion = nn.CrossEntropyLoss()  # fault
criterion = nn.CrossEntropyLoss(ignore_index=0)  # well
for step in range(12):
    pick = torch.randperm(120)[:32]
    loss = criterion(net(words[pick]).transpose(1, 2), tags[pick])  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
